"""Classes or numbers learned from examples, by an encoder that stays as it is. No Lightning."""
