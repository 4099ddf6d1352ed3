"""What the fuzz suite (tests/system/test_fuzz.py) is made of: hostile variants of inputs, and the oracle."""
