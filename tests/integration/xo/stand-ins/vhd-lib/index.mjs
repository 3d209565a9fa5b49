// XO's client imports these names to export disks; no snapshot comes by them.
export const DEFAULT_BLOCK_SIZE = 0
export const unpackFooter = undefined
export const unpackHeader = undefined
export default {}
