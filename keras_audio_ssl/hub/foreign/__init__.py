"""Published checkpoints of other libraries, made into encoders."""
