"""Random faults, one after another, while models are evaluated: whatever dies, the same check ends each."""
