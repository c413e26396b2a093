"""Making an existing model elastic: its ties found by one run, its smaller networks by slicing."""
