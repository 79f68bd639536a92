"""What acts on studies: runs them, forks them, retrains and measures their answers."""
