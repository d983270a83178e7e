"""Where logs come from: public data sets, a team's own files, a simulator. One module each."""
