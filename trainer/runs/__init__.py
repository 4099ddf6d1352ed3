"""A run from its files alone: its records as they are written, its state in words, a view for the terminal."""
