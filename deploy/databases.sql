-- One database for each server; PostgreSQL's image runs this at its first start.
CREATE DATABASE mlflow;
CREATE DATABASE mlflow_users;
CREATE DATABASE prefect;
