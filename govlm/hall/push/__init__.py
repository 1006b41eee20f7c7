"""What the hall recommends to a person without being asked: from a profile with consent and what the person did, and never against an opt-out."""
