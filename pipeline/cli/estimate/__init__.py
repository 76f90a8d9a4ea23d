"""What a run will cost, by a short measurement here: events, seconds, memory, disk, traffic, core hours."""
