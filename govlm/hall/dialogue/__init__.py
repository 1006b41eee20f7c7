"""Conversation: procedures as data, a pure step from one state to the next, and the driver that performs what it asks for."""
