"""`softprompt release`: keys, trust roots and the care of a channel: init, keygen, root, history, trace, revoke, verify, gc."""
