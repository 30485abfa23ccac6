"""What makes the core fast on a CPU: weight layout, int8 and oneDNN products, memory."""
