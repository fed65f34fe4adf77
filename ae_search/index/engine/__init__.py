"""The engines: what grows an immutable base from latents and returns candidates."""
