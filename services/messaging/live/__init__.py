"""Live delivery: what is committed reaches those who are connected, in order, each event once."""
