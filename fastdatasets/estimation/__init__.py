"""What a run would ask and cost, and what is said of that."""
