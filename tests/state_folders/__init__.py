"""Every file of every state folder, spoiled in every way (`python -m tests.state_folders`)."""
