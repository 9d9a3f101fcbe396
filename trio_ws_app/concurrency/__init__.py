"""What Trio's own tools are combined to: tasks behind a block, calls at a fixed rate, time that counts."""
