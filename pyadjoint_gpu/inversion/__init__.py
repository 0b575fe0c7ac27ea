"""From a problem to the recovered fields."""
