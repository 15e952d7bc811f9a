"""What will happen: schedules, their knobs, seeds and what is drawn from them."""
