"""What every other part stands on; it knows none of them."""
