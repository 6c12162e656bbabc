"""The typed client of Sampan's chat, for programs in Python."""
