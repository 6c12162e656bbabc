"""What people show of themselves, and where they want to be paid out."""
