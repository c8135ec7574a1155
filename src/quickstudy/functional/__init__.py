"""The mathematics: pure functions of tensors, written for one task, without state."""
