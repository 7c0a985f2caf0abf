"""Where answers are kept, and the only places that move their state."""
