"""The trainer that users call, the one training loop, and its parts."""
