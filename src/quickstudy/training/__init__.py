"""How a network is trained on data: Lightning begins here."""
