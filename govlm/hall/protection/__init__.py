"""What a hall keeps of people: encrypted, under pseudonyms, with their consent, for a time that is set."""
