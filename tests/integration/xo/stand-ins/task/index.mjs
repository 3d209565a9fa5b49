// XO's client imports this name; no snapshot comes by it.
export class Task {}
