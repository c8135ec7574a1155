"""A model as files: its folder, its journal, its graphs, the Hub. No Lightning."""
