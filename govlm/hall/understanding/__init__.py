"""What a person wants: the business type and the item, what they do with the sentence, and what it holds."""
