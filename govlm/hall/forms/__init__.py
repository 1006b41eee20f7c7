"""Forms of service items: their schema, filling them from what people say, checks, rules across fields, export."""
