"""What notifiers share: the queue of messages for people, accounts, emergencies, pictures, the dead man's switch."""
