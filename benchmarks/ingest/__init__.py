"""Documents put over the wire: throughput, visibility, kills, hostile puts."""
