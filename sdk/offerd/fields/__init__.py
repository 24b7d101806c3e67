"""How the structs of messages and descriptions are made, and how they check their fields."""
