"""The STRIDE register: rows as data, statuses from measurements."""
