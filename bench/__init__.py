"""What ezbatch costs, beside what it is compared with: ``make bench``."""
