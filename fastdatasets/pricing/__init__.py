"""What tokens cost, how many there will be, and quotes made of both."""
