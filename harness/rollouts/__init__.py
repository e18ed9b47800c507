"""Problems become scored rollouts, and rollouts become training rows."""
