"""One night, unattended: measured, judged and told to people; and what may go of old runs."""
