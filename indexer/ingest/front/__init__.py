"""The part of the door that runs in the server's process: it parses and embeds nothing.

A put's path::

    servicer      finds out who asks for what
    stream        reads many puts at once, no more than may wait
      puts        goes through the steps of each
        limits    refuse what the server doesn't take, and bound what waits
        turns     puts operations on one URI into order
      forwarding  hands it to the writer process, and turns the answer's error into an exception

``process`` keeps the writer process running, and watches it.
"""
