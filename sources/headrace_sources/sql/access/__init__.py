"""Access to the database: sessions, the query semaphore, cancelled statements, translated driver errors."""
