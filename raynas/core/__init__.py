"""Floor 0: spaces, architectures, samplers and trials as plain values, without torch or ray."""
