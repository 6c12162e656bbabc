"""What several migrations write, as it now is."""
