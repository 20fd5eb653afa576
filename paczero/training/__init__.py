"""The trainer that users call, the one training loop, and what it is made of."""
