"""What an answer is: its losses and metrics. No Lightning."""
