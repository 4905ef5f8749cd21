"""What a training takes before it begins: parameters, memory, seconds, and what to change where it does not fit."""
