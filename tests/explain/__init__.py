"""Every row of the cause table: the situation is built, and the sentence read."""
