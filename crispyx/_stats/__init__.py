"""Methods: arrays in, arrays out. The one room that may hand a call to ``reference``."""
