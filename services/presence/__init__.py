"""Who is there, and when they were last seen."""
