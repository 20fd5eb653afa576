"""Other releases for the same loop: MeZO, without privacy. Imports no torch."""
