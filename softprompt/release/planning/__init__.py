"""What a change would do to a channel, and whether its policy allows it; pure, so it can be shown before it is done."""
