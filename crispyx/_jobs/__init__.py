"""What every long operation shares: the screen, the block driver, the result file."""
