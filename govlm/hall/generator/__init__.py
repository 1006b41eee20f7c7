"""The optional generator of a hall: it puts what was found into plain words. Off by default; what it writes is checked before it is shown."""
