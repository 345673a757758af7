-- The load: the requests of a file, one after the other, over and over. A line of the file is
-- target, Host, name of the credential field and its value, with tabs between.
local requests = {}
local last = 0

function init(args)
   for line in io.lines(args[1]) do
      local target, host, name, value = line:match("^([^\t]+)\t([^\t]+)\t([^\t]+)\t([^\t]+)$")
      requests[#requests + 1] = wrk.format("GET", target, { Host = host, [name] = value })
   end
end

function request()
   last = last % #requests + 1
   return requests[last]
end
